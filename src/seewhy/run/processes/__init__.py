"""Several processes of one run: their number, their launcher, and one message where one of them ends."""
