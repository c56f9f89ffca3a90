"""Messages of streams as the exchanges document them, and what they must be read as."""
