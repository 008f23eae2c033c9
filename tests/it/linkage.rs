//! Who is whom, from outside: merge and unmerge, link and unlink, split, history, the steward's work.

mod changes;
mod corpus;
mod people;
mod region;
mod review;
mod search;
mod streams;
