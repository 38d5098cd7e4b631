#!/bin/sh
# Makes a SCRAM-SHA-512 user of Kafka for each file of a folder: its name is the principal's, what
# it holds is the password (`python -m services.ingest privileges passwords FOLDER` makes them).
#   BOOTSTRAP=kafka-0:9093 ADMIN_CONFIG=admin.properties sh ops/kafka/users.sh FOLDER/kafka
# KAFKA_CONFIGS names kafka-configs.sh where it is not on the PATH, PREFIX is the topics' prefix.
# No password stands on a command line, where every user of the machine could read it.
set -eu
umask 077
told=$(mktemp)
trap 'rm -f "$told"' EXIT
for file in "${1:?a folder of passwords}"/*; do
  printf 'SCRAM-SHA-512=password=%s\n' "$(sed 's/\\/\\\\/g' "$file")" >"$told"
  ${KAFKA_CONFIGS:-kafka-configs.sh} --bootstrap-server "${BOOTSTRAP:?}" \
    ${ADMIN_CONFIG:+--command-config "$ADMIN_CONFIG"} --alter --add-config-file "$told" \
    --entity-type users --entity-name "${PREFIX:-}fraudstream-$(basename "$file")"
done
