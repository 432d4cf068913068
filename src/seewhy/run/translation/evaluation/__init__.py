"""Parts of `seewhy evaluate`: what is kept of each subject, what is made of it, and how it is told."""
