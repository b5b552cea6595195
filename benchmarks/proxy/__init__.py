"""What a request costs, side by side with nginx: `make bench`. `rows.py` says what is measured."""
