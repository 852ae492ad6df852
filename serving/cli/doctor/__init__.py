"""`turnout doctor`: what is wrong with this installation, one check a line."""
