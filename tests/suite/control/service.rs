//! The publisher service's control socket.
