"""The path of a metered request, from parsing its body to posting its settlement."""
