//! Stage `forward`: what goes upstream instead of what came.

pub mod openai;
