// The form works without this; it adds the language, the colours, and what went wrong.
(() => {
    // The table of texts is behind the login.
    const ZH = {
        failed: "令牌不正确。",
        label: "令牌",
        hint: "记录器配置中 http.token 的值。",
        enter: "登录",
    };
    const kept = (name) => {
        try {
            return localStorage.getItem(name);
        } catch {
            return null;
        }
    };
    const root = document.documentElement;
    const wanted = [kept("language"), ...navigator.languages].filter(Boolean).map((tag) => tag.slice(0, 2).toLowerCase());
    if (wanted.find((tag) => tag === "en" || tag === "zh") === "zh") {
        root.lang = "zh-Hans";
        for (const [id, text] of Object.entries(ZH)) document.getElementById(id).textContent = text;
    }
    // A view that was asked for is opened after the login: a browser keeps this part of an address over redirects.
    document.querySelector("form").action = `/login${location.hash}`;
    const theme = kept("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    const asked = new URLSearchParams(location.search);
    document.getElementById("failed").hidden = !asked.has("failed");
    const wait = Number(asked.get("wait"));
    if (wait > 0) document.getElementById("failed").textContent = root.lang === "en" ? `Too many wrong tokens. Try again in ${wait} s.` : `错误令牌过多，请在 ${wait} 秒后重试。`;
})();
