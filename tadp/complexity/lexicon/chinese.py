"""Closed lists of Chinese in simplified characters. Verbs are open: many are known by a character they contain."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


JOINTS = _words(
    "是 有 在 会 能 可以 可 要 像 如 似 使 让 令 被 把 将 没有 无 显得 带有 具有 带 呈 感 调 超 如同 仿佛 作为 成 "
    "可见 以 给 用 与 和 或 及 以及 并 并且 而 但 但是 一样 似的 进行 对 对着 为 其中 由 一人 对方 彼此 自己 她 他 它 "
    "他们 她们 它们 一个 一种 没 不 很 非常 十分 极 更 最 也 都 还 只 就"
)
"""Words that join others and name nothing; the tagger takes some of them for verbs or nouns."""

COMPLEMENTS = _words(
    "起来 起 下来 下去 上来 上去 出来 出去 进来 进去 过来 过去 回来 回去 而出 而过 而下 而上 而起 开来 来 去 着 了 过 "
    "到 完 住 得 地"
)
"""What follows a verb and belongs to it."""

STATES = _words(
    "站 坐 躺 卧 睡 蹲 停 等 等候 等待 放 放在 摆 摆放 堆 堆放 挂 悬 悬挂 立 矗立 耸立 屹立 坐落 位于 排列 覆盖 穿 "
    "穿着 戴 佩戴 拿 握 抱 持 捧 看 看着 凝视 注视 望 望着 面对 面向 映 倒映 映照 映衬 照 照耀 照射 照亮 笼罩 充满 "
    "布满 点缀 装饰 铺 镶嵌 展示 展现 呈现 描绘 拍摄 俯瞰 俯视 雕刻 刻 画 绘 绘制 停靠 停泊 停放 依偎 靠 倚靠 保持 "
    "属于 拥有 包含 组成 构成 摄 反射 折射 散发 透 透过 流露 打扮 盛开 环绕 围绕 围 围着 突出 熟睡 沉睡 休息 发 陈列 "
    "搭配 采用 体现 营造 洋溢 弥漫 静止 存在 感到 喜欢 觉得 想 连接 相连 通向 通往 延伸 垂 披 留 长满 取景 聚焦 投影 "
    "流行 举行 位 占据 虚化 渲染"
)
"""Verbs of a scene in which nothing moves, and of the making of a picture; so are all that end in 满."""

MOTION_CHARACTERS = frozenset(
    "跑跳飞走奔滚转旋落升降坠沉飘漂流涌冲撞扑抛扔掷踢击推拉拖拽抬举爬攀游潜跃追逐逃闪躲越绕驶驰骑滑摔跌倒翻荡甩喷溅洒泼滴淌泻赶离移行踏踩舞挥弹扬掀卷刮进入出蹿窜闯钻跨蹦腾"
)
"""A verb with one of these moves or moves something."""

CHANGE_CHARACTERS = frozenset("变融溶碎裂崩塌爆炸凋枯萎谢冻灭毁断破胀腐蜕褪")
"""A verb with one of these leaves something changed."""

MOTION = _words(
    "动 移动 行走 行进 行驶 走动 穿过 穿越 穿梭 穿行 盘旋 旋转 转动 转身 转 摇摆 摆动 掠过 划过 经过 路过 路经 靠近 "
    "接近 逼近 后退 前进 撤退 包围 跟随 追 追赶 打 打斗 搏斗 战斗 拍打 拍动 松开 接住 抓住 抓 投 投掷 投篮 射 射击 "
    "发射 射门 拾起 捡起 拿起 举起 放下 放到 放进 倒 倒进 倒入 倒下 切换 推进 拉近 拉远 吹 吹动 挥动 起飞 降落 着陆 "
    "起身 站起 站起来 起舞 跳舞 划船 划 开 驾驶 回头 回 回到 返回 到达 抵达 来到 前往 上升 下降 下落 下沉 下坠 俯冲 "
    "滚动 滑动 流动 流淌 振翅 展翅 拥抱 相撞 碰撞 相遇 碰 碰到 撞 抖 抖动 震动 震颤 颤抖 挣扎 加速 减速 刹车 超车 "
    "转弯 拐弯 散步 巡游 游泳 冲浪 跳水 溜 溜走 逃跑 躲避 躲藏 攻击 袭击 掉 掉落 掉下 落下"
)
CHANGE = _words(
    "变 变成 变为 变化 变换 化为 化作 化成 成为 转变 转化 演变 进化 长成 长出 长大 生长 成长 发芽 萌发 开花 绽放 开放 "
    "结果 枯死 融化 熔化 溶解 凝固 凝结 结冰 冻结 蒸发 消失 消散 散开 散去 分散 扩散 扩大 扩张 缩小 收缩 膨胀 聚集 "
    "汇聚 汇合 汇集 合并 融合 分裂 分开 分成 分解 打开 张开 展开 关上 关闭 合上 合拢 苏醒 醒来 亮起 点亮 点燃 起火 "
    "着火 熄灭 变暗 出现 显现 浮现 现身 诞生 死去 倒塌 坍塌 崩溃 瓦解 建造 建成 搭建 组装 重组 拆除 拆开 打破 打碎 "
    "折断 打翻 断开 撕 撕开 撕裂 弯曲 折叠 变形 恢复 复原 开始 停止 结束 完成 切换 交替 轮换 更替 加深 增强 减弱 增多 "
    "减少 增加 落山 日出 日落 生锈 腐烂 褪色 替换 取代 吞没 吞噬 淹没 孵化 脱落 破壳 引爆 点火"
)
STIR = _words(
    "闪烁 摇曳 飘动 飘扬 飘拂 微笑 笑 眨眼 眨 呼吸 燃烧 漂浮 悬浮 浮 浮动 发光 闪耀 闪光 闪动 荡漾 波动 点头 颤动 "
    "沸腾 冒 冒着 冒出 拂 拂动 拂过 轻摇 摇 摇晃 晃动 起伏 抽烟"
)

EVENTS = _words(
    "爆炸 雷雨 暴雨 暴风雨 暴风雪 风暴 闪电 雷电 海啸 雪崩 地震 龙卷风 飓风 烟花 烟火 战斗 战争 大战 追逐 追逐战 大火 "
    "火灾 洪水 延时 延时摄影 变化 过程 转场 碰撞 泥石流 火山爆发 喷发 比赛 运动 动作 变身 变形"
)
"""Nouns of what happens; they are entities as well."""

UNREST = _words("动荡 混乱 狂暴 汹涌 剧烈 激烈 动态 湍急 猛烈 急促 疯狂")

ORDER = _words(
    "然后 接着 随后 随即 之后 后来 最后 最终 终于 突然 忽然 猛然 骤然 瞬间 顿时 霎时 立刻 立即 马上 逐渐 渐渐 日渐 "
    "同时 与此同时 直到 直至 先 再 又 重新 再次 不断 持续 依次 逐一 逐个 一一 纷纷 紧接着 转眼 转眼间 不久 片刻 期间 "
    "起初 先后 接连 首先 其次 随着 时而 反复 一边 以后 以前 之前 此时 这时 当 从此 继续 陆续 连续 刹那 一步步 一层层 "
    "当时"
)
"""Words that order events in time."""

PACE = _words("慢慢 缓缓 缓慢 快速 迅速 飞快 飞速 急速 徐徐 高速 慢动作 匆匆 急忙 慢慢地 缓缓地")

RELATIONS = _words(
    "上方 下方 上面 下面 前面 后面 前方 后方 左边 右边 左侧 右侧 左 右 左方 右方 旁边 身旁 身后 身前 身边 身下 中间 "
    "之间 周围 四周 中央 中心 对面 附近 远处 近处 里面 外面 内部 外部 顶部 底部 上空 空中 半空 向 朝 往 沿着 沿 顺着 "
    "绕 绕着 围着 向上 向下 向左 向右 向前 向后 朝着 向着 四面八方 背后 脚下 脚边 头顶 水下 地下 边缘 角落 前景 隔着 "
    "靠近 迎面 并排 面对面 两侧 两旁 两边 之上 之下 之外 之后方 前 后 旁 间 旁侧 斜上方 斜下方 门前 窗外 墙边 路边 "
    "侧面 正面 背面 后边 前边 里边 外边 上边 下边 东边 西边 南边 北边 贴着 相邻"
)
"""Words of position and of relative motion."""

RELATION_VERBS = _words(
    "追逐 追赶 跟随 包围 环绕 围绕 盘旋 绕 相撞 碰撞 相遇 靠近 接近 逼近 离开 超过 进入 跨越 穿越 穿梭 穿行 经过 汇合 "
    "分开 围 面对 面向 追 撞 撞上 撞倒 分成 汇聚 通过"
)
RELATION_ENDINGS = frozenset("过进入出向离")
"""A verb of motion that ends in one of these says where to."""

PLACES = frozenset("上下里中内外边")
"""The commonest places: nearly every caption has one, so each counts less. They also end nouns of place."""

NEAR = frozenset("旁前后间侧")
"""Endings of nouns of place that relate two things."""

STYLE = _words(
    "风格 画质 高清 超清 质感 细节 摄影 构图 光影 色调 镜头 背景 特写 肖像 画面 照明 柔光 柔光箱 自然光 景深 胶片 "
    "颗粒 对比 对比度 高对比度 分辨率 高分辨率 超高分辨率 大师级 大师 作品 电影 电影感 史诗 史诗感 概念 艺术 氛围 "
    "情调 笔触 油画 插画 水彩 素描 渲染 壁纸 极简 极致 唯美 梦幻 微距 虚化 效果 商业 高级 专业 色彩 暖色 冷色 暖色调 "
    "冷色调 暗色调 复古 情绪 层次 逼真 写实 真实 细腻 精美 丰富 纹理 质量 视角 产品图 奇幻 古典 时尚 意境 光线 表情 "
    "简洁 干净 优雅 图 照 照片 摄影师 国家地理 地理 博物馆级 明暗 强烈 厚重 中性 浅 质 柔和 纯净 淡雅 宁静 忧郁 神秘 "
    "明亮 清晰 锐利 高对比 主义 极简主义 水墨 水墨画 动漫 卡通 三维 像素 低多边形 超现实 写真 杂志 海报 封面 级 广告 "
    "镜头感 大片 滤镜 饱和度 散景 逆光 侧光 聚光 影调 设计 调子 绿色调"
)
"""Words about the picture instead of what is in it: they and their descriptions name no entity."""
