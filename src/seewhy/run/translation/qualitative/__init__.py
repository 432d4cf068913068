"""Cases of a translating run: chosen by their true scores, translated again, looked into and drawn."""
