//! Records, capture, journal and delivery of zkbridge; names no connector and opens no socket.
