"""Moving files to and from storage nodes: upload, download, encryption, paying once."""
