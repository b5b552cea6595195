"""The operator's commands: thin wrappers of the functions that the services use."""
