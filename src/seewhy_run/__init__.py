"""Run exported networks on files, with onnxruntime and numpy; this package imports neither torch nor seewhy.

`seewhy export` copies it into every export, and seewhy itself takes the functions of `seewhy_run.arrays` from here, so
that what prepares an image in training and in an export is one piece of code.
"""
