//! Stage `accept`: is this a request that can be judged at all, and for what does its body ask?
//!
//! [`head`] judges heads; [`openai`] reads the deciding words of a body on `/v1`, each with its position.

pub mod head;
pub mod openai;
mod spelling;
mod values;
