//! Capture formats: encoding records and reading files.
