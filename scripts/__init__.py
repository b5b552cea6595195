"""The operator's hands: thin commands over the functions that the services use."""
