// Starts the page.

import { render } from "preact";
import "./styles/colours.css";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/roll.css";
import "./styles/panels.css";
import { App } from "./app";
import { listenToKeys } from "./keys";
import { openFromAddress } from "./project/server";
import { loadStart } from "./views/start";
import { applyTheme } from "./views/theme";

applyTheme();
render(<App />, document.getElementById("app") as HTMLElement);
listenToKeys();
void openFromAddress().then((isOpen) => (isOpen ? undefined : loadStart()));
