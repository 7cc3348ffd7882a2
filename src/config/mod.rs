//! Reads zeo.conf into one typed [`Config`].
