// Light or dark: as the system has it, unless the person chose.

import { signal } from "@preact/signals";
import { reread } from "../roll/palette";
import { Icon } from "./icons";

type Theme = "system" | "light" | "dark";

const PLACE = "seqgen studio theme";
const theme = signal<Theme>((localStorage.getItem(PLACE) as Theme | null) ?? "system");
const darkness = window.matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (theme.value === "system" ? darkness.matches : theme.value === "dark");

export function applyTheme(): void {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  reread();
}

darkness.addEventListener("change", applyTheme);

export function ThemeButton() {
  const turn = () => {
    theme.value = isDark() ? "light" : "dark";
    localStorage.setItem(PLACE, theme.value);
    applyTheme();
  };
  theme.value;
  const name = isDark() ? "Light colours" : "Dark colours";
  return (
    <button type="button" class="quiet icon" aria-label={name} title={name} onClick={turn}>
      <Icon name={isDark() ? "sun" : "moon"} />
    </button>
  );
}
