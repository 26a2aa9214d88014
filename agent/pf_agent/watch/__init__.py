"""What happened to the files, and which process wrote them."""
