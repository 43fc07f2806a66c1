//! The operator's pages, carried out: `docs/operate/*.md` say what to type and what is answered, and a test does so.

pub mod page;
pub mod site;

pub use page::{Block, blocks};
pub use site::Site;
