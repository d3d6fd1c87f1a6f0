"""Music files to a `symusic.Score`: MIDI, Guitar Pro and MusicXML, also in zip archives; see `files.read_music`."""
