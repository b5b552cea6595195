"""The one who sells: the client, the price list, and what its wire says."""
