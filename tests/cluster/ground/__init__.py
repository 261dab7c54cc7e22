"""The ground of the cluster tests: a real Kubernetes API, and stand-ins for what this machine has not.

    binaries.py       where etcd, kube-apiserver and kube-controller-manager lie
    control_plane.py  one API server with its etcd and controllers, as processes of this test run
    api.py            plain HTTP to the API server; shares nothing with the product's own client
    mirror.py         list and watch of one kind, for the stand-ins
    operator.py       plays the training operator: jobs become pods and services, pods become a status
    kubelet.py        plays scheduler and kubelets: pods become processes of this machine, with logs and exit codes
    container.py      one container as a process tree
    volumes.py        what a pod mounts, as folders, and its paths and names as this machine knows them
    loghatch.py       a kubelet's HTTPS log endpoint
    cluster.py        all of it together; namespaces with our ServiceAccount and exactly our Role

Written from what the real operator v1.9 was seen to do. It knows nothing of Muster but its labels.
"""
