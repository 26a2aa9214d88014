"""What must hold of every parser for any bytes: atheris and the plain tests share these."""
