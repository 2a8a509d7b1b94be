//! What a cluster says while nothing befalls it.

use harness::cluster::Cluster;
use harness::{Context, Result};

use crate::stage::Stage;
use crate::{balancers, current, index, limits, recorder, standins};

/// One cluster for all of it, because none of it disturbs the rest; what moves the leader comes last.
#[tokio::test]
async fn a_calm_cluster_answers_as_it_was_measured() -> Result<()> {
    let stage = Stage::on(Cluster::raft(3).await?).await?;
    index::health_says_which_node_is_active(&stage)
        .await
        .context("health")?;
    index::successes_carry_an_index_and_errors_none(&stage)
        .await
        .context("index")?;
    index::an_index_beyond_any_is_refused_by_standbys_alone(&stage)
        .await
        .context("fail")?;
    index::honouring_shows_without_a_credential(&stage)
        .await
        .context("honouring")?;
    index::what_is_no_index_of_this_cluster_is_ignored(&stage)
        .await
        .context("other indexes")?;
    current::the_active_answers_through_a_standby(&stage)
        .await
        .context("forwarding")?;
    current::one_who_asks_for_the_active_is_audited_there_alone(&stage)
        .await
        .context("audit")?;
    current::a_standby_does_not_know_at_once_what_was_minted_through_it(&stage)
        .await
        .context("mint")?;
    limits::a_refused_renewal_writes_nothing(&stage)
        .await
        .context("renewals")?;
    limits::a_standby_does_for_a_client_what_the_active_does(&stage)
        .await
        .context("standby")?;
    limits::a_namespace_is_named_once_and_not_to_health(&stage)
        .await
        .context("namespaces")?;
    limits::a_quota_says_when_to_come_back(&stage)
        .await
        .context("quota")?;
    limits::a_body_of_too_many_keys_is_refused(&stage)
        .await
        .context("complexity")?;
    limits::a_node_that_cannot_audit_says_that_it_is_well(&stage)
        .await
        .context("audit")?;
    recorder::a_recorder_tells_credentials_before_proof(&stage)
        .await
        .context("recorder")?;
    standins::other_servers_are_told_apart_by_health(&stage)
        .await
        .context("stand-ins")?;
    standins::old_standbys_forward_and_newer_ones_read(&stage)
        .await
        .context("stand-ins")?;
    balancers::lead_where_their_kind_leads(&stage.cluster)
        .await
        .context("balancers")
}
