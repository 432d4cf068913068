"""Parts of `seewhy cases`: case list, selection, translation, arrays and figures."""
