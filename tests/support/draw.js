// Draws a page of HTML as a browser does, without one: node draw.js FILE [#FRAGMENT]. Runs the page's own script in
// jsdom, loads nothing, and prints the document as it is then; exit status 1 with the error if the script throws one.
// Owns: nothing of the page. Must not know: what is on it.
"use strict";
const fs = require("fs");
const { pathToFileURL } = require("url");
const { JSDOM, VirtualConsole } = require("jsdom");

const [file, fragment = ""] = process.argv.slice(2);
const told = new VirtualConsole();
told.on("jsdomError", (error) => {
  process.stderr.write(`${(error.detail && error.detail.stack) || error.stack || error}\n`);
  process.exitCode = 1;
});
const page = new JSDOM(fs.readFileSync(file, "utf8"), {
  url: pathToFileURL(file).href + fragment, runScripts: "dangerously", virtualConsole: told,
});
page.window.addEventListener("load", () => process.stdout.write(page.serialize()));
