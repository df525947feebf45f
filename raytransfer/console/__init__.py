"""What goes to a terminal, of any width and encoding: standard output itself, and tables of numbers."""
