#!/bin/sh
# A team joins: gangs of the tenant NAMESPACE may run in the namespace of that name. It runs as you; repeating it changes
# nothing. Name the namespace in MUSTER_GANG_NAMESPACES of your overlay's settings.env as well, and apply the overlay.
#   deploy/team.sh NAMESPACE
#   deploy/team.sh --remove NAMESPACE      after it was taken out of the settings and its gangs are gone
# KUBECTL: another kubectl, with options if need be.
set -eu
kubectl=${KUBECTL:-kubectl}
here=$(cd "$(dirname "$0")" && pwd)
remove=
if [ "${1-}" = --remove ]; then remove=yes; shift; fi
if [ $# -ne 1 ] || [ "${1#-}" != "$1" ]; then sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
case "$1" in default | muster-system | kube-*) echo "$1 is no namespace of a team" >&2; exit 2 ;; esac

if [ -n "$remove" ]; then
    left=$($kubectl -n "$1" get pytorchjobs.kubeflow.org -l app.kubernetes.io/managed-by=muster -o name)
    if [ -n "$left" ]; then
        printf 'gangs are left in %s; take it out of MUSTER_GANG_NAMESPACES and wait:\n%s\n' "$1" "$left" >&2
        exit 1
    fi
    $kubectl label namespace "$1" muster/gangs-
    $kubectl -n "$1" delete -k "$here/gangs" --ignore-not-found
else
    $kubectl -n "$1" apply -k "$here/gangs"
    $kubectl label --overwrite namespace "$1" muster/gangs=true    # the service's NetworkPolicy lets its gangs come
    echo "now name $1 in MUSTER_GANG_NAMESPACES of settings.env, and apply your overlay"
fi
