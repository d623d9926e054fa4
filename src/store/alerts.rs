//! `alerts`: what people were told of and is not over.

use diesel::{Insertable, QueryDsl, QueryResult, Queryable, RunQueryDsl};

use super::connection::{Connection, on};
use super::events::text;
use super::schema::alerts;
use crate::alerts::{Active, Condition};
use crate::clock::Timestamp;

/// What changed about the alerts that people were told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertChanges {
    /// They know of these now.
    pub told: Vec<Active>,
    /// They know that these are over.
    pub over: Vec<Condition>,
}

impl AlertChanges {
    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty() && self.over.is_empty()
    }
}

/// What people were told of and is not over. A kind of another version is left alone.
pub(super) fn told(connection: &mut Connection) -> QueryResult<Vec<Active>> {
    let sorted = alerts::table.order((alerts::kind, alerts::endpoint, alerts::instance_id));
    let rows: Vec<Row> = on!(connection, c => sorted.load(c))?;
    Ok(rows.into_iter().filter_map(Row::into_alert).collect())
}

/// Stores what changed.
pub(super) fn keep(connection: &mut Connection, changes: &AlertChanges) -> QueryResult<()> {
    for condition in changes.over.iter().chain(changes.told.iter().map(|alert| &alert.condition)) {
        let Row { kind, endpoint, instance_id, .. } = Row::new(condition, Timestamp(0), "");
        on!(&mut *connection, c => diesel::delete(alerts::table.find((&kind, &endpoint, &instance_id))).execute(c))?;
    }
    for Active { condition, since, text } in &changes.told {
        let row = Row::new(condition, *since, text);
        on!(&mut *connection, c => diesel::insert_into(alerts::table).values(&row).execute(c))?;
    }
    Ok(())
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = alerts)]
struct Row {
    kind: String,
    endpoint: String,
    instance_id: String,
    since: i64,
    text: String,
}

impl Row {
    fn new(condition: &Condition, since: Timestamp, words: &str) -> Self {
        let (endpoint, instance) = condition.subject();
        let stored = |part: Option<&str>| text(part.unwrap_or_default()).into_owned();
        let kind = condition.kind().to_owned();
        Self { kind, endpoint: stored(endpoint), instance_id: stored(instance), since: since.0, text: stored(Some(words)) }
    }

    fn into_alert(self) -> Option<Active> {
        let condition = Condition::from_parts(&self.kind, &self.endpoint, &self.instance_id)?;
        Some(Active { condition, since: Timestamp(self.since), text: self.text })
    }
}
