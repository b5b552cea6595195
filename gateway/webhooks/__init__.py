"""What apps are told, and how: endpoints, signatures, addresses, the sender."""
