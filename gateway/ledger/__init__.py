"""Money: holds and postings. The only code that moves it."""
