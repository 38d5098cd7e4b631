#!/bin/sh
# Rights of each principal. Made by `python -m services.ingest privileges kafka`; run it again after
# an upgrade. It adds rights and takes none away.
#   BOOTSTRAP=kafka-0:9093 ADMIN_CONFIG=admin.properties sh ops/kafka/acls.sh
# KAFKA_ACLS names kafka-acls.sh where it is not on the PATH.
set -eu
allow() {
  ${KAFKA_ACLS:-kafka-acls.sh} --bootstrap-server "${BOOTSTRAP:?}" \
    ${ADMIN_CONFIG:+--command-config "$ADMIN_CONFIG"} --add --allow-principal "$@"
}
allow User:fraudstream-ingest --operation Read --topic transactions.raw.v1 --group fraudstream-ingest
allow User:fraudstream-ingest --operation Write --topic transactions.accepted.v1 --topic transactions.late.v1 --topic transactions.dlq.v1
allow User:fraudstream-labels --operation Read --topic labels.raw.v1 --group fraudstream-bank-labels
allow User:fraudstream-labels --operation Write --topic labels.settled.v1 --topic transactions.dlq.v1
allow User:fraudstream-features-card --operation Read --topic transactions.accepted.v1 --topic decisions.made.v1 --topic alerts.raised.v1 --group fraudstream-features-card
allow User:fraudstream-features-card --operation Write --topic entities.keyed.v1 --topic transactions.dlq.v1 --topic quarantine.v1
allow User:fraudstream-features-entity --operation Read --topic entities.keyed.v1 --group fraudstream-features-entity
allow User:fraudstream-features-entity --operation Write --topic quarantine.v1
allow User:fraudstream-features-entity --operation Describe --topic transactions.accepted.v1 --topic labels.settled.v1
allow User:fraudstream-features-label --operation Read --topic labels.settled.v1 --group fraudstream-features-label
allow User:fraudstream-features-label --operation Write --topic entities.keyed.v1 --topic quarantine.v1
allow User:fraudstream-scoring --operation Read --topic rules.published.v1 --topic decisions.stood_in.v1 --group fraudstream-scoring-rescore
allow User:fraudstream-scoring --operation Write --topic transactions.accepted.v1 --topic decisions.made.v1 --topic decisions.stood_in.v1 --topic decisions.rescored.v1 --topic decisions.shadowed.v1 --topic alerts.raised.v1 --topic quarantine.v1
allow User:fraudstream-scoring --operation Describe --topic entities.keyed.v1
allow User:fraudstream-console --operation Read --topic alerts.raised.v1 --group fraudstream-console
allow User:fraudstream-console --operation Write --topic labels.settled.v1 --topic quarantine.v1
allow User:fraudstream-archive --operation Read --topic transactions.accepted.v1 --topic decisions.made.v1 --topic labels.settled.v1 --topic decisions.shadowed.v1 --group fraudstream-archive
allow User:fraudstream-archive --operation Write --topic quarantine.v1
allow User:fraudstream-publisher --operation Read --topic rules.published.v1
allow User:fraudstream-publisher --operation Write --topic rules.published.v1
allow User:fraudstream-operator --operation Read --topic transactions.dlq.v1 --topic quarantine.v1
allow User:fraudstream-operator --operation Write --topic transactions.raw.v1 --topic transactions.dlq.v1
allow User:fraudstream-rebuilder --operation Read --topic transactions.accepted.v1 --topic decisions.made.v1 --topic alerts.raised.v1 --topic entities.keyed.v1
allow User:fraudstream-rebuilder --operation Describe --topic labels.settled.v1
allow User:fraudstream-trainer --operation Read --topic transactions.accepted.v1 --topic decisions.made.v1 --topic labels.settled.v1 --topic entities.keyed.v1 --topic rules.published.v1
allow User:fraudstream-administrator --operation Create --operation Describe --operation DescribeConfigs --topic transactions.raw.v1 --topic transactions.accepted.v1 --topic transactions.late.v1 --topic transactions.dlq.v1 --topic quarantine.v1 --topic entities.keyed.v1 --topic decisions.made.v1 --topic decisions.stood_in.v1 --topic decisions.rescored.v1 --topic decisions.shadowed.v1 --topic alerts.raised.v1 --topic labels.raw.v1 --topic labels.settled.v1 --topic rules.published.v1
allow User:fraudstream-bank --operation Write --topic transactions.raw.v1 --topic labels.raw.v1
allow User:fraudstream-decision-reader --operation Read --topic decisions.made.v1 --topic decisions.rescored.v1 --topic transactions.late.v1
