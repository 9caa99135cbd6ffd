"""Pictures and sounds: from files, bytes and arrays to pixels and samples, in bounded memory."""
