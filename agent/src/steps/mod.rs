//! The steps, one file each, in the pipeline's order. They talk to the world through [`crate::outside`] only.
