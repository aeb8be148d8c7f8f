// Calls to the service. A service that asks for a token gets it with every call; the tab keeps it until it is closed.

const KEPT = "ecgforge-token";

export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status; // 0 where the service did not answer
  }
}

export async function call(path, options = {}) {
  const response = await answer(path, options);
  return response.json();
}

export async function picture(path) {
  return URL.createObjectURL(await (await answer(path, {})).blob());
}

export async function download(path, options = {}) {
  const response = await answer(path, options);
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name ? decodeURIComponent(name[1]) : "ecg";
  link.click();
  // The browser reads the blob after the click has returned.
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return link.download;
}

async function answer(path, { method = "GET", json, body } = {}) {
  const headers = {};
  const token = sessionStorage.getItem(KEPT);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    // What is being saved arrives even if the page is left meanwhile.
    const keepalive = method === "PUT";
    response = await fetch(path, { method, headers, keepalive, body: json === undefined ? body : JSON.stringify(json) });
  } catch {
    throw new Problem("The service does not answer. Is `ecgforge serve` still running?");
  }
  if (response.status === 401) {
    await askForToken();
    return answer(path, { method, json, body });
  }
  if (!response.ok) throw new Problem(await reason(response), response.status);
  return response;
}

async function reason(response) {
  try {
    const { error, remedy } = await response.json();
    return remedy && remedy !== "see /docs" ? `${error}; ${remedy}` : error;
  } catch {
    return `The service answered with status ${response.status}.`;
  }
}

let asking = null; // several calls may be refused at once, the question comes once

function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token-dialog");
    const form = document.getElementById("token-form");
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEPT, document.getElementById("token").value.trim());
      dialog.close();
      asking = null;
      resolve();
    };
    dialog.oncancel = (event) => event.preventDefault(); // without a token there is nothing to see
    dialog.showModal();
  });
  return asking;
}
