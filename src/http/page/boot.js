// Runs before the first paint, so that nothing flashes in the wrong colours.
(() => {
    const root = document.documentElement;
    try {
        const theme = localStorage.getItem("theme");
        if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    } catch {
        // Storage may be off; the system's theme is right then.
    }
})();
