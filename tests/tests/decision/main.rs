//! The start-up decision against an oracle written from its specification alone, in every world of up to four members.

mod compare;
mod facts;
mod families;
mod histories;
mod law;
mod model;
mod properties;
mod worlds;
