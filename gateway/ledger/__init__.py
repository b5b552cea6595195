"""The ledger: holds, settlements, the sweeper. The only code that moves money."""
