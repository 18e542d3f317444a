// One setting as the server describes it. Nothing here knows what a setting means.

import type { Setting } from "../api/types";
import { continues, setValue, type Value, wishes } from "../project/wishes";
import { Icon } from "./icons";
import { numberIn } from "./number";

export function SettingField({ setting }: { setting: Setting }) {
  const id = `setting-${setting.name}`;
  const value = wishes.value.values[setting.name];
  return (
    <div class="setting">
      <div class="setting-head">
        <label for={id}>{setting.label}</label>
        {value !== undefined && (
          <button
            type="button"
            class="quiet reset"
            aria-label={`Reset ${setting.label}`}
            onClick={() => setValue(setting, null)}
          >
            reset
          </button>
        )}
      </div>
      <Input id={id} setting={setting} value={value} />
      <p class="help" id={`${id}-help`}>
        {setting.help}
      </p>
    </div>
  );
}

interface InputProps {
  id: string;
  setting: Setting;
  value: Value | undefined;
}

function Input(props: InputProps) {
  switch (props.setting.type) {
    case "number":
    case "integer":
      return <NumberInput {...props} />;
    case "choice":
      return <ChoiceInput {...props} />;
    case "list":
      return <ListInput {...props} />;
    default:
      return <TextInput {...props} />;
  }
}

function NumberInput({ id, setting, value }: InputProps) {
  const { minimum, maximum } = setting;
  const shown = value ?? setting.default ?? "";
  const step = setting.type === "integer" ? 1 : "any";
  const take = (event: { currentTarget: HTMLInputElement }) => {
    const number = numberIn(event.currentTarget);
    if (number !== undefined) setValue(setting, number);
  };
  const box = (
    <input
      id={id}
      type="number"
      min={minimum ?? undefined}
      max={maximum ?? undefined}
      step={step}
      value={shown}
      placeholder="any"
      aria-describedby={`${id}-help`}
      onInput={take}
    />
  );
  if (minimum == null || maximum == null || setting.default == null) return box;
  return (
    <div class="slider-and-box">
      <input
        type="range"
        aria-label={setting.label}
        aria-describedby={`${id}-help`}
        min={minimum}
        max={maximum}
        step={setting.type === "integer" ? 1 : (maximum - minimum) / 100}
        value={Number(shown)}
        onInput={take}
      />
      {box}
    </div>
  );
}

/** The value that leaves open what would be kept otherwise; null where nothing is kept. */
const openValue = (setting: Setting) => (continues.value ? (setting.open ?? null) : null);

function ChoiceInput({ id, setting, value }: InputProps) {
  const open = openValue(setting);
  return (
    <select
      id={id}
      value={value === setting.open && open === null ? "" : (value ?? "")}
      aria-describedby={`${id}-help`}
      onChange={(event) => setValue(setting, event.currentTarget.value || null)}
    >
      <option value="">{open === null ? "any" : "as before"}</option>
      {open !== null && <option value={open}>any</option>}
      {setting.choices.map((choice) => (
        <option key={choice.value} value={choice.value}>
          {choice.label}
        </option>
      ))}
    </select>
  );
}

function TextInput({ id, setting, value }: InputProps) {
  return (
    <input
      id={id}
      type="text"
      value={value ?? ""}
      placeholder="any"
      aria-describedby={`${id}-help`}
      onInput={(event) => setValue(setting, event.currentTarget.value || null)}
    />
  );
}

/** Several choices in an order, each as often as wanted. */
function ListInput(props: InputProps) {
  const { id, setting, value } = props;
  if (setting.choices.length === 0) return <TextInput {...props} />;
  const open = openValue(setting);
  const isEmpty = value === undefined || value === setting.open;
  const items = isEmpty ? [] : String(value).split(setting.separator);
  const set = (next: string[]) => setValue(setting, next.join(setting.separator) || null);
  const nameOf = (item: string) =>
    setting.choices.find((choice) => choice.value === item)?.label ?? item;
  return (
    <div class="list-input">
      {items.map((item, index) => (
        <button
          key={`${index} ${item}`}
          type="button"
          class="chip"
          aria-label={`Remove ${nameOf(item)}`}
          onClick={() => set(items.filter((_, other) => other !== index))}
        >
          {nameOf(item)} <Icon name="close" />
        </button>
      ))}
      <select
        id={id}
        value=""
        aria-describedby={`${id}-help`}
        onChange={(event) => {
          const item = event.currentTarget.value;
          if (item) set(item === open ? [item] : [...items, item]);
          event.currentTarget.value = "";
        }}
      >
        <option value="">
          {isEmpty && open !== null && (value === open ? "any; " : "as before; ")}add…
        </option>
        {open !== null && <option value={open}>any</option>}
        {setting.choices.map((choice) => (
          <option key={choice.value} value={choice.value}>
            {choice.label}
          </option>
        ))}
      </select>
    </div>
  );
}
