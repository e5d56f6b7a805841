//! Source and sink URIs of the command line.
