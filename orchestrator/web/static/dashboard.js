// Inside Kubeflow: pages are about the namespace that the Central Dashboard's picker shows.
// The dashboard tells it through its own library, which stands at the root of its site; without it the page of
// namespaces is the picker. Tabs share the cookie: a page that is there says its own namespace with each call.
"use strict";

const PAGES_AT = document.body.dataset.base;
const FRAMED = window.parent !== window;

function choose(namespace) {
  if (namespace === document.body.dataset.namespace) return;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `muster_namespace=${encodeURIComponent(namespace)}; Path=${PAGES_AT}; SameSite=Strict${secure}`;
  if (namespace !== "*" && location.pathname === `${PAGES_AT}/namespaces`) location.replace(`${PAGES_AT}/`);
  else location.reload();
}

// In the dashboard its picker has the say: a choice made here goes through the address that it stands under.
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-choose]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const namespace = link.dataset.choose;
  if (FRAMED) window.top.location.assign(`/_${PAGES_AT}/?ns=${encodeURIComponent(namespace)}`);
  else choose(namespace);
});

const dashboard = window.centraldashboard?.CentralDashboardEventHandler;
dashboard?.init((handler) => {
  handler.onNamespaceSelected = choose;
  handler.onAllNamespacesSelected = () => choose("*");
});
