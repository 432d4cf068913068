"""Work that several processes share through a folder: who is alive, who has claimed what, and what is done."""
