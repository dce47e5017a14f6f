"""Tools of developers: faults put into the code, and hostile input."""
