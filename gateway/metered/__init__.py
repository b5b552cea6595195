"""The path of one metered request, from the body to the posting of what it owes."""
