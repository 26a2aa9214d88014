"""The real objects, built once, and the loop that drives them."""
