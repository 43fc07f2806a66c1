//! Real brokers under chaos: `QUORATE_CHAOS_SEED` plays another schedule, `QUORATE_CHAOS_SECONDS` a longer one.

use quorate_tests::chaos::run::Plan;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acceptance_basic_chaos_loses_nothing_confirmed_and_delivers_nothing_twice_unmarked() {
    Plan::from_environment().play().await;
}
