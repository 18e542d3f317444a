// Play, also where there is nothing to play yet: then a first version is written and heard while it comes.

import { play } from "../sound/player";
import { write } from "./actions";
import * as store from "./store";

export async function startOrPlay(): Promise<void> {
  if (!store.shownId.value) await write({ samples: 1 });
  if (store.shownId.value) await play();
}
