//! Stage `accept`: whether a request can be judged at all, and the deciding words of its body.
//!
//! [`head`] judges heads; [`body`] makes a body on `/v1` plain; [`openai`] reads the deciding words of a body on `/v1`, each with its position;
//! [`count`] bounds and counts the tokens of its input; [`room`] bounds the memory of all bodies.

pub mod body;
pub mod count;
pub mod head;
pub mod openai;
pub mod room;
mod spelling;
pub mod turns;
mod values;
