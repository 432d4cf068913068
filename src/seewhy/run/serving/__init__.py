"""Serve a trained run on this machine: a page and an API that predict and explain uploaded cases."""
