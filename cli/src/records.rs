//! Records of the audit log as the controller sends them, page by page. Prints nothing.

use gantry_proto::{
    audit::{Head, Record},
    v1,
};
use tonic::Streaming;

use crate::{
    client::Client,
    exit::{Exit, Failure},
    refusal,
};

/// A list of records on its way.
pub(crate) struct Records<'a> {
    client: &'a Client,
    stream: Streaming<v1::ListAuditResponse>,
    /// The last record of the log when the list was asked for.
    pub(crate) head: Head,
    /// Of the first message, if it has any.
    first: Vec<v1::AuditRecord>,
}

impl<'a> Records<'a> {
    /// Asks for them.
    pub(crate) async fn ask(client: &'a Client, request: v1::ListAuditRequest) -> Result<Self, Failure> {
        let mut stream = client.audit(request).await?;
        let first = client.next_page(&mut stream).await?;
        let first = first.ok_or_else(|| refusal::incomplete(client.url(), "head of the audit log"))?;
        let head = first.head.and_then(|head| Head::try_from(head).ok());
        let head = head.ok_or_else(|| refusal::incomplete(client.url(), "head of the audit log"))?;
        Ok(Self { client, stream, head, first: first.records })
    }

    /// The next ones; `None` behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Record>>, Failure> {
        let mut page = std::mem::take(&mut self.first);
        if page.is_empty() {
            let Some(answer) = self.client.next_page(&mut self.stream).await? else { return Ok(None) };
            page = answer.records;
        }
        let records = page.into_iter().map(Record::try_from).collect::<Result<_, _>>();
        records.map(Some).map_err(|error| {
            Failure::new(
                Exit::Internal,
                said!(
                    "the controller at {url} sends what is no record",
                    "控制器 {url} 发来的不是审计记录"; url = self.client.url()
                ),
            )
            .because(error.to_string())
            .remedy(said!("compare the versions: ctl version", "请核对版本：ctl version"))
        })
    }

    /// All that are left. Only for lists with a limit.
    pub(crate) async fn all(mut self) -> Result<(Vec<Record>, Head), Failure> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok((all, self.head))
    }
}
