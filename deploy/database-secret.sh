#!/bin/sh
# Makes the Secret muster-database with a random password for the example database, once; what is there stays as it is.
# For a server of your own:
#   kubectl -n muster-system create secret generic muster-database --from-literal=url=postgresql+psycopg2://…
set -eu
kubectl get namespace muster-system >/dev/null 2>&1 || kubectl create namespace muster-system
if kubectl -n muster-system get secret muster-database >/dev/null 2>&1; then
    echo "muster-database is there"
    exit 0
fi
password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
kubectl create -f - <<EOF
apiVersion: v1
kind: Secret
metadata: {name: muster-database, namespace: muster-system}
stringData:
  password: $password
  url: postgresql+psycopg2://muster:$password@muster-postgres.muster-system.svc:5432/muster
EOF
